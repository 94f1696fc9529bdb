"""The door to the outside: what is read is bounded and checked, what is shown is escaped, what is written is whole.

Nothing else in the project opens a file that people exchange, makes a file name from text, or shows a file's text raw.
"""
