#!/usr/bin/env python3
"""Counts CloudTrail records and distinct identities below a folder, with nothing but Python's own library."""
import gzip
import json
import pathlib
import sys

records = 0
seen = set()
for path in sorted(pathlib.Path(sys.argv[1]).rglob("*.json.gz")):
    with gzip.open(path) as file:
        for record in json.load(file)["Records"]:
            records += 1
            seen.add((record.get("recipientAccountId") or record["userIdentity"].get("accountId"), record["eventID"]))
print(json.dumps({"records": records, "distinct": len(seen), "ids": sorted(f"{a}|{e}" for a, e in seen)}))
