"""The encoder that is Triton: the only room that knows tritonclient and gRPC."""
