"""Tasks on the user's own files: texts with a class or a number (`classes`), prompts with a completion (`texts`).

`tables` reads a file, `columns` finds its columns, `data` does both and holds rows out, `audit` says what it found.
"""
