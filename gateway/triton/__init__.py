"""The encoder that calls Triton. Only this package imports tritonclient and grpc."""
