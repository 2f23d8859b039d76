"""Run by `torchrun` in test_metrics_ranks.py: each rank adds its uneven share, and all compute together."""

import json
import sys

import evaluate
import numpy as np
from accelerate import Accelerator

from hf_lotus.publishing.spaces import metric_path
from tests.metrics.test_ranks import BATCHES, LOADED

accelerator = Accelerator(cpu=True)
results = {"world_size": accelerator.num_processes}
for case, (name, options) in LOADED.items():
    metric = evaluate.load(metric_path(name), **options)
    for batch in BATCHES[name]():
        count = len(batch["predictions"])
        # Rank 0 has a fifth of the rows, rank 1 the rest; of the last source rank 0 has none.
        share = 0 if batch.pop("last", False) else count // 5
        mine = np.arange(count) < share if accelerator.process_index == 0 else np.arange(count) >= share
        if mine.any():
            metric.add_batch(**{key: value if isinstance(value, str) else value[mine] for key, value in batch.items()})
    results[case] = metric.compute(accelerator=accelerator)

# A rank without any row takes part as well.
metric = evaluate.load(metric_path("jsd"))
if not accelerator.is_main_process:
    metric.add_batch(predictions=[[1.0, 0.0]], references=[[0.0, 1.0]])
results["one rank is empty"] = metric.compute(accelerator=accelerator)

with open(f"{sys.argv[1]}/{accelerator.process_index}.json", "w", encoding="utf-8") as file:
    json.dump(results, file)
accelerator.end_training()
