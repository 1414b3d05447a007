"""What a user types. A command is a file of its name, however short; `tail` stands beside `ask`, in `answers.py`.

At their top these files import only what is light, since `--help` loads all of them: what takes seconds to import
(torch, Chroma, the Kafka client) is imported by the function that needs it.
"""
