"""A table as LaTeX that needs no package."""

from collections.abc import Sequence

from lora_repro.tables.table import Table, alignment, header, texts

LATEX = {character: f"\\{character}" for character in "&%_#${}"} | {
    "±": r"$\pm$",
    "†": r"$^\dagger$",
    "—": "---",
    "−": "$-$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "[": "{[}",
    "]": "{]}",
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}  # brackets are braced: after a line's \\ LaTeX would take [ for a length


def latex(tables: Sequence[Table]) -> str:
    """One LaTeX table a backbone; needs no package. Footnotes go into the caption."""
    parts = []
    for table in tables:
        rows = [" & ".join(escape(text) for text in row) + r" \\" for row in texts(table)]
        caption = escape(" ".join([table.caption, *table.footnotes]))
        parts.append(
            "\n".join(
                [
                    r"\begin{table}",
                    r"\centering\tiny",
                    rf"\caption{{{caption}}}",
                    rf"\begin{{tabular}}{{{alignment(table)}}}",
                    r"\hline",
                    " & ".join(map(escape, header(table))) + r" \\",
                    r"\hline",
                    *rows,
                    r"\hline",
                    r"\end{tabular}",
                    r"\end{table}",
                ]
            )
        )
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """`text` with LaTeX's special characters and our symbols made safe."""
    return "".join(LATEX.get(character, character) for character in text)
