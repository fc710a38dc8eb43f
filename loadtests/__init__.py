"""How the shop is used: plans, shoppers, recorder."""
