"""What referee and trainer tell one another: messages, flags and weights. All that both of them import."""
