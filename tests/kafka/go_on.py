"""A real Kafka goes on with transactions that another program left.

  go_on.py TOOLS NODE TOPIC,TOPIC ID...

NODE is what `kafka-opens --keep` left: a node that has the directory. It is started, and finishes
what was decided. Each ID then takes its transactional id over and runs a transaction over the
topics, of which every other one is aborted. Prints as JSON what Kafka's clients see before and
after."""

import base64
import json
import sys
import time
from pathlib import Path

tools, root, topics, ids = sys.argv[1], sys.argv[2], sys.argv[3].split(","), sys.argv[4:]
sys.path.insert(0, tools)
import kafkalib  # noqa: E402

STILL = {"log.cleaner.enable": "false", "transactional.id.expiration.ms": "604800000"}


def text(value):
    return base64.b64encode(value.encode()).decode()


def settled(driver):
    """The state, once every end that is decided is known to its partitions."""
    until = time.time() + 60
    while True:
        state = driver("state")
        waiting = [id for id, t in state["transactions"].items() if t["state"].startswith("Prepare")]
        if not waiting:
            return state
        if time.time() > until:
            sys.exit(f"not finished: {waiting}")
        time.sleep(0.3)


def main():
    driver = kafkalib.Driver()
    node = kafkalib.Node(Path(root), STILL)
    try:
        node.start()
        driver("connect", bootstrap=node.bootstrap)
        before = settled(driver)
        for number, id in enumerate(ids):
            driver("producer", id=id, config={"transactional.id": id})
            driver("init", by=id)
            driver("begin", by=id)
            driver("send", by=id, batches=[[{"t": topic, "p": 0, "v": text(f"again {id}")}] for topic in topics])
            driver("commit_txn" if number % 2 == 0 else "abort_txn", by=id)
            driver("close_producer", by=id)
        after = settled(driver)
        node.stop()
        driver("disconnect")
    finally:
        if node.process and node.process.poll() is None:
            node.kill()
        driver.close()
    print(json.dumps({"before": before, "after": after}))


main()
