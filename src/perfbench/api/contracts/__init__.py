"""Conformance suites: what every workload and every submission must do, as functions that need no test runner."""
