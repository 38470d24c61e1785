"""The benchmark behind ``python -m convmin bench``: peers, ceilings, checks, tables and plots.

- shapes, cases: what is measured; peers, cudnn_graph: who is
- check: right results first, against float64
- timing, memory: how; machine: versions, clocks, and the machine's own limits
- budget, runner: in which order, and for how long
- report, plots: what comes out; cli: the command line
"""
