"""The side that is measured: model, training data, submission, and what it saves."""
