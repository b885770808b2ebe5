"""The incumbent's vision tower without a server: torch, FP32, eager, as a worker in the exporter's environment.

Arguments: open_clip's name of the architecture, and the image size. The weights are random, which changes no speed. A
request is a JSON line with `seconds`; the reply is images/s at batch 1 and 8.
"""

import json
import os
import sys
import time

import open_clip
import torch  # type: ignore[import-not-found,unused-ignore]  # installed in .venv-export


def main() -> None:
    """Answer requests until standard input closes."""
    architecture, size = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    tower = open_clip.create_model(architecture).visual.eval()
    for line in sys.stdin:
        seconds = json.loads(line)["seconds"]
        reply = {}
        for batch in (1, 8):
            images = torch.randn(batch, 3, size, size)
            count = 0
            with torch.inference_mode():
                tower(images[:1])
                begun = time.perf_counter()
                while (spent := time.perf_counter() - begun) < seconds / 2 or not count:
                    tower(images)
                    count += batch
            reply[str(batch)] = count / spent
        print(json.dumps(reply), flush=True)  # noqa: T201  standard output is the protocol


if __name__ == "__main__":
    main()
