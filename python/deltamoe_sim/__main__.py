"""python -m deltamoe_sim"""

from deltamoe_sim.cli import app

app(prog_name="deltamoe_sim")
