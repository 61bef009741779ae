"""Scoring conversions. Nothing here is used to convert, and no judge is ever trained against."""
