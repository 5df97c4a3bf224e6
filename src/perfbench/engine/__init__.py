"""Running a trial: a referee that owns clock, records and evaluation, and a trainer that runs the submission."""
