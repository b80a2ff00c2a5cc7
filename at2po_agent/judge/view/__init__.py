"""Episodes and trees to read.

transcript      an episode in the terminal
passages        search results, taken out of an observation
page            an HTML page in one file, without network
page_episodes   the episodes of an evaluation in it
page_trees      the trees of a training run in it
run_page        the page of any run directory
"""
