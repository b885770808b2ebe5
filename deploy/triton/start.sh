#!/usr/bin/env bash
# How every Triton of this project starts, in the stock image: refuse plans that do not fit, then become the server.
#
# PE_REPOSITORY   the model repository; it is only read
# PE_ADDRESS      where HTTP and gRPC listen (0.0.0.0); metrics are for others in any case
# Arguments       more of tritonserver's own
set -euo pipefail

python3 "$(dirname "$0")/preflight.py" "$PE_REPOSITORY"

arguments=(
  --model-repository="$PE_REPOSITORY"
  --model-control-mode=none          # nobody loads or unloads through the network: what is served is what was started
  --disable-auto-complete-config     # our configurations are complete, and guessing loads each model twice
  --strict-readiness=true            # ready means: every model is
  --http-address="${PE_ADDRESS:-0.0.0.0}"
  --grpc-address="${PE_ADDRESS:-0.0.0.0}"
  --metrics-address=0.0.0.0          # else they would be where HTTP is
  --metrics-config=summary_latencies=true    # quantiles of queueing and computing, beside the sums, which give averages alone
  --metrics-config=summary_quantiles=0.5:0.01,0.99:0.001  # each with its error; the dashboard shows 0.99
  --grpc-infer-thread-count=8        # of 2: a message here is up to 8 images of 0.3 MB, each copied by such a thread
  --grpc-infer-allocation-pool-size=128      # of 8: request objects kept for reuse, twice the gateway's PE_MAX_IN_FLIGHT
  --pinned-memory-pool-byte-size=1073741824  # of 256 MB, which a dozen batches in flight use up
  --cache-config=local,size=268435456        # for the text towers alone, which ask for it; a gateway's own cache comes first
  --exit-timeout-secs=35             # on SIGTERM, what runs may end: a request lasts PE_DEADLINE_SECONDS (30) at most
)
exec tritonserver "${arguments[@]}" "$@"
