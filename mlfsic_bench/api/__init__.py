"""The Python front: what `import mlfsic_bench as mb` offers (docs/python.md).

Nothing is computed here. Every function makes a `RunPlan` or opens results, and calls what the
command line calls: `evaluation`, `results`, `analysis`.
"""
