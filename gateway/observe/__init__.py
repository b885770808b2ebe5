"""Measure each request once, and report it as metrics, a log line, a `Server-Timing` header and a trace."""
