"""``import deltamoe.auto`` patches mlx-lm: see :func:`deltamoe.patch`."""

import deltamoe

deltamoe.patch()
