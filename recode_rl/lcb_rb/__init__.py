"""LCB-RB: a benchmark of reasoning pairs out of problems of your own, and how reasoning goes with correctness."""
