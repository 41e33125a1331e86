"""Model checking in miniature: the operator's own code against a modelled cluster and store.

The plan's driver and its reporter are the real ones; modelled are an API server that conflicts,
loses requests and answers, and lags; a store that fails before or after a write; pods that train a
hash under the protocol of ``hippo.protocol.records``; and up to two operators, which may be killed
between any two requests. Everything happens in virtual time, one step at a time, in an order that
Hypothesis chooses (``tests/unit/kube/test_state_machine.py``).
"""
