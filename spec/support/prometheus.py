"""What is wrong with a text in Prometheus' exposition format, as its own client reads it.

python3 prometheus.py FILE    a line for each mistake
"""
import sys
from prometheus_client.parser import text_string_to_metric_families as families
seen = set()
for family in families(open(sys.argv[1]).read()):
    if family.name in seen: print(family.name, "comes twice")
    seen.add(family.name)
    if not family.documentation: print(family.name, "has no HELP")
    if not family.name.startswith("longshore_"): print(family.name, "is not ours")
    if not family.samples: print(family.name, "has no sample")
    if family.type == "unknown": print(family.name, "has no TYPE")
    if family.type == "histogram":
        rows = {}
        for sample in family.samples:
            labels = dict(sample.labels)
            le = labels.pop("le", None)
            row = rows.setdefault(tuple(sorted(labels.items())), {"buckets": []})
            if le is not None: row["buckets"].append((float(le), sample.value))
            else: row[sample.name.rsplit("_", 1)[1]] = sample.value
        for labels, row in rows.items():
            buckets = row["buckets"]
            if buckets != sorted(buckets) or [n for _, n in buckets] != sorted(n for _, n in buckets):
                print(family.name, labels, "buckets fall")
            if not buckets or buckets[-1] != (float("inf"), row.get("count")) or "sum" not in row:
                print(family.name, labels, "is not whole")
if len(seen) < 5: print("only", seen)
