"""What requests cost and what becomes of them: taken once, told as metrics, log lines, ``Server-Timing`` and traces."""
