"""AdamG."""
