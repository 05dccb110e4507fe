"""MindInsight's routes: what its server recorded, and what its specification says beyond that."""
