"""SAMSum: chats summarised."""
