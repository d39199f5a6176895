"""The demo: real GitHub webhooks, a worker that is killed, and the proof that nothing was lost or repeated.

`python -m durable demo` runs it. Read on in this order: `webhooks` (the durable functions), `worker` (the
process that is killed), `director` (who kills it), `evidence` (what the ledger proves).
"""
