"""The worker between "a query was asked" and "an answer was published"; docs/architecture.md leads through it."""

import os

# GNU OpenMP's threads spin while they wait for each other, and where a neighbour holds the core of the one they wait
# for, spinning costs four fifths of the scorer's speed: another process, Kafka and Chroma on the same machine, a pod
# beside. Ten thousand turns cost nothing when it is quiet. libgomp reads this once, when torch loads it, so it stands
# before every other import; whoever has set a policy of their own keeps it.
if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
    os.environ["GOMP_SPINCOUNT"] = "10000"
