"""CG-GRPO through veRL: the same reward, records and metrics as from TRL, on many GPUs.

Nothing here imports veRL when it is imported. `settings` writes its configuration, `stage` runs it in a process of its
own, `manager` is what veRL's reward workers call, `records` and `journal` bring home what they learnt.
"""
