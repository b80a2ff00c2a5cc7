"""Our environments where their users already are; each file needs an extra, and nothing else imports it.

tables          tasks as a Hugging Face dataset (``at2po[datasets]``) and as Search-R1's Parquet (``at2po[parquet]``)
"""
