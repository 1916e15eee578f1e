"""LoRA: Low-Rank Adaptation of Large Language Models, reproduced. Nothing in here names a table or a figure."""
