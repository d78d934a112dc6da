"""What stock MLX and mlx-lm dispatch, chosen and launched by their own rules."""
