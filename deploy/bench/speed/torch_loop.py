"""What the incumbent runs, without a server: the vision tower in torch, FP32, eager. Run by the exporter's Python.

Arguments: open_clip's name of the architecture and the image size. Weights are random, which changes no speed. Asked by
JSON lines for ``seconds``, it answers in images a second at batch 1 and 8.
"""

import json
import os
import sys
import time

import open_clip
import torch  # type: ignore[import-not-found,unused-ignore]  # in its own environment


def main() -> None:
    architecture, size = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    tower = open_clip.create_model(architecture).visual.eval()
    for line in sys.stdin:
        seconds = json.loads(line)["seconds"]
        answer = {}
        for batch in (1, 8):
            images = torch.randn(batch, 3, size, size)
            count = 0
            with torch.inference_mode():
                tower(images[:1])
                begun = time.perf_counter()
                while (spent := time.perf_counter() - begun) < seconds / 2 or not count:
                    tower(images)
                    count += batch
            answer[str(batch)] = count / spent
        print(json.dumps(answer), flush=True)  # noqa: T201  the answer


if __name__ == "__main__":
    main()
