"""sinv6_75: a learned learning rate over three quarters of the step hint."""
