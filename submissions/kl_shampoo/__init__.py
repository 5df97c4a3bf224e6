"""KL-Shampoo and KL-SOAP."""
