"""Comparisons at equal cost: which algorithm, or which way to answer, is better, by how much, and how sure that is.

config           a study: variants × seeds at one budget, from a YAML file
cells            its runs: which are finished, and how they are made, several at a time
runs             a training run as a measurement: evaluations question by question, and what was spent before each
statistics       means and paired differences over seeds and questions, with intervals
curves           scores against what training has cost, and the areas under them
comparison       runs by variant, over the seeds and questions that they share
tables           its tables: scores, differences, areas, costs, and what was equal and what was not
page             a comparison as one HTML page and as Markdown
black_box        evaluations with --tree: chains, votes and trees against generated tokens
black_box_page   their tables and curves
audit            the counterfactual check of credit: stored turns beside fresh rollouts from the same states
audit_page       its tables and curves

A number of your own on the page is a ``Sheet`` of ``tables``: every form of the page shows it.
"""
