#!/bin/bash
# NVIDIA's own prints a banner and chooses CUDA's libraries; both become the command.
exec "$@"
