"""BibTeX of the works that more than one module cites."""

from __future__ import annotations

YAN_2022 = """\
@inproceedings{yan2022inferring,
  title = {Inferring Prototypes for Multi-Label Few-Shot Image Classification with Word
    Vector Guided Attention},
  author = {Yan, Kun and Zhang, Chenbin and Hou, Jun and Wang, Ping and Bouraoui, Zied and
    Jameel, Shoaib and Schockaert, Steven},
  booktitle = {Proceedings of the AAAI Conference on Artificial Intelligence},
  volume = {36}, number = {3}, pages = {2991--2999}, year = {2022},
  doi = {10.1609/aaai.v36i3.20205}
}"""
ALFASSY_2019 = """\
@inproceedings{alfassy2019laso,
  title = {{LaSO}: Label-Set Operations Networks for Multi-Label Few-Shot Learning},
  author = {Alfassy, Amit and Karlinsky, Leonid and Aides, Amit and Shtok, Joseph and
    Harary, Sivan and Feris, Rogerio and Giryes, Raja and Bronstein, Alex M.},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern
    Recognition (CVPR)},
  pages = {6548--6557}, year = {2019}
}"""
LAFARGUE_2024 = """\
@article{lafargue2024oops,
  title = {Oops, I Sampled it Again: Reinterpreting Confidence Intervals in Few-Shot Learning},
  author = {Lafargue, Raphael and Smith, Luke A. and Vermet, Franck and L{\\"o}we, Matthias and
    Reid, Ian and Valmadre, Jack and Gripon, Vincent},
  journal = {Transactions on Machine Learning Research}, year = {2024}
}"""
