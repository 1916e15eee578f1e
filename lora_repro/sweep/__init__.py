"""Many runs: launched in processes of their own, supervised, searched over.

Import `launch.sweep`, `supervise.start` for one run in a process, `tune.tune` for rates, `health` for what a machine lacks.
To add a launcher, write a plugin of Hydra's, as `ray_launcher`.
Never start a run of a sweep other than by `supervise.start`: a crash must not harm the others.
"""
