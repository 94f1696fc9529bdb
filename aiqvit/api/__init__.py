"""The Python API, one function or two a file; `import aiqvit` finds them when they are used."""
