"""``pe-bench``: how near the served stack comes to what the machine can do.

    stack -> the thing measured        pe-serve with Triton and the gateway, or addresses of one
    perf_analyzer, load -> the load    NVIDIA's over gRPC, ours over HTTP; each a process of its own
    decode_loop, bare, gemm, torch_loop -> the limits
    schedule -> rounds of all of these in turn -> results (one JSON) -> report (Markdown), plots

Machines are shared and their clocks move, so nothing here trusts an absolute figure: everything is measured in every
round, in alternating order, and what counts are ratios within a round, by their median and range.
"""
