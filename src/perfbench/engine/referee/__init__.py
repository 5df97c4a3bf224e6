"""The side that measures: it never imports a submission, and believes no number that a trainer reports."""
