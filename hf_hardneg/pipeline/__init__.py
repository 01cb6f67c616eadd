"""The way of a batch, a stage a file. Each stage hands an immutable table to the next; none looks back.

The batch is read (`Reader.read`):

    Queries       a row a query: text, identity, vector; its known positives, its exclusion set, its answers

`retrieval.Retrieval.search` asks the retriever, and `exclusion` judges each hit:

    Found         candidates: query | doc | score | rank | position | source      outside the exclusion set, best first
                  counts:     retrieved | known_positive | duplicate | not_a_number | blank      a row a query
                  scores of the known positives, and of those that the rows list

`rescoring.Rescoring.add` computes what filters and the sampler read besides the score:

    Found         candidates: ... | signals[name]     NaN where a pair was not scored
                  signals of the positives that the rows list

`selection.Selection.choose` runs the filters in their order (`filtering.Filtering.passing`), then the sampler, then
`padding.Padding`:

    Chosen        query | doc | score | rank | source | signals[name]      at most num_negatives a query
                  removed[filter]: a count a query; which rows stay; pseudo-positives

`selection.Selection.emit` writes the columns of mined data beside the columns of the batch.

`rank` counts all hits, `position` those outside the exclusion set; neither is ever renumbered
(`Candidates.ranks`). `Found` has an Arrow form, in which `steps.py` stores it between the stages.
"""
