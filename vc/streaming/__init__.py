"""Converting while somebody speaks: what is heard, and each stage of a conversion step by step."""
