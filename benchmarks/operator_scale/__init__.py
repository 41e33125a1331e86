"""The operator against a real API server, with as many pods at once as asked for.

    python -m benchmarks.operator_scale [--pods 10 100 300 1000] [--output FILE]

Real are etcd, the API server, MinIO, and the operator (``hippo operator``, a process with the
rights of a service account). Scheduler, kubelets and trainers are one process that stands in for
them (``standin``): it binds pods, sets their statuses, and does for each what ``stage_runner`` does
for a pod, through the same records and the same store: reports, checkpoints, controls, the wait for
another route at the end. Its trainer sleeps; its state is a hash over all that it was trained with,
so a step left out, doubled or trained under other values shows in the results, which are checked.

For each point a plan is trained whose trials branch late, twice as many as pods. The API server's
audit log counts what the operator asks of it; everything else is read from ``/metrics``, ``/proc``
and the objects. The servers and the stand-in share the machine with the operator, so seconds say
less than calls, bytes and their growth from point to point; the load stands beside them.
"""
