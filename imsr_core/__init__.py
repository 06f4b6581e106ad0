"""The models: tensors in, tensors out. torch and numpy, and no file but the checkpoint.

To read it beside the paper (Wang and Shen, ICDE 2023), in this order:

    interests        what a user is: a set of vectors          section III
    extractors/      from items to interests                   ComiRec, MIND
    objectives       L_SS, the loss                            section III-B
    detector         NID, who needs new interests              section IV-C
    retainer         EIR, what is known stays known            section IV-B
    trimmer          PIT, what of them is really new           section IV-D
    trainer          the loop                                  algorithm 2
    strategies/imsr  a span from start to end                  algorithm 2
    retrieval        top-N from a user's interests             section III
    score/           what is served: interests beside counts   ours
    lifelong/        tasks on one encoder of a user            Conure, TERACON, PeterRec

`parts` lists what a setting can name. docs/method.md has the symbols, and says where paper and code differ, and why.
"""
