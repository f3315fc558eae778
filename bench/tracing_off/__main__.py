from tracing_off.cost import GOAL_US, cost_us

print(f"tracing off: {cost_us():.2f} us of CPU a message, the goal is {GOAL_US:g}")
