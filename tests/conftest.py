"""What holds for every test."""

from hypothesis import HealthCheck, settings

# How long an example takes says how busy the machine is, not whether the code is right. In CI too
# every run tries other examples.
settings.register_profile(
    "any-machine",
    deadline=None,
    derandomize=False,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("any-machine")
