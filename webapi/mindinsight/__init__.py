"""MindInsight's REST API over our tables: the same routes, fields, errors and orders. A module a family."""
