"""Folders as others publish them, opened by the predictor: the same answers as the reference library's."""

import shutil
from pathlib import Path

import pytest
import torch
import transformers

from tests.golden import test_tokenizer as golden
from unmask import Predictor, Tokenizer
from unmask.checkpoint import load_model
from unmask.tasks.class_reader import ClassificationSettings
from unmask.tasks.classification import Classification
from unmask.tasks.number_reader import RegressionSettings
from unmask.tasks.regression import Regression

GOLDEN = Path(golden.__file__).parent / "tokenizer"
SCORES_ATOL = 1e-5
CLASSES = {
    "roberta": (transformers.RobertaConfig, transformers.RobertaForMaskedLM),
    "xlm-roberta": (transformers.XLMRobertaConfig, transformers.XLMRobertaForMaskedLM),
    "bert": (transformers.BertConfig, transformers.BertForPreTraining),
}


def published(family: str, folder: Path) -> transformers.PreTrainedModel:
    """A folder of random weights beside a published form of tokenizer."""
    shutil.copytree(GOLDEN / family, folder)
    tokenizer = Tokenizer.load(folder)
    make_config, make = CLASSES[family]
    config = make_config(
        vocab_size=tokenizer.vocab_size,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64 if family == "bert" else 66,
        type_vocab_size=2 if family == "bert" else 1,
        pad_token_id=tokenizer.pad_id,
    )
    network = make(config).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    network.save_pretrained(folder)
    return network


@pytest.mark.parametrize("family", sorted(CLASSES))
@pytest.mark.parametrize("text", ["the cat {} on the mat", "{} is it", "\u4eca\u5929{}\u6c14"])
def test_masks_are_filled_with_the_same_scores(family: str, text: str, tmp_path: Path) -> None:
    network = published(family, tmp_path / "model")
    predictor = Predictor.load(tmp_path / "model")
    tokenizer = predictor.task.tokenizer
    (answer,) = predictor([text.format(tokenizer.mask_token)])
    (features,) = predictor.task.encode([{"text": text.format(tokenizer.mask_token)}])
    ids = torch.from_numpy(features.input_ids.astype("int64"))[None]
    with torch.inference_mode():
        found = network(input_ids=ids)
    logits = found.prediction_logits if family == "bert" else found.logits
    place = int((ids[0] == tokenizer.mask_id).nonzero())
    scores = logits[0, place].softmax(-1)
    special = set(tokenizer.special_ids.tolist())
    whole = [i for i in range(len(scores)) if i not in special and "\ufffd" not in tokenizer.decode([i])]
    best = sorted(whole, key=lambda i: -float(scores[i]))[:5]
    assert [one.token for one in answer.masks[0].candidates] == [tokenizer.piece(i) for i in best]
    ours = torch.tensor([one.score for one in answer.masks[0].candidates])
    torch.testing.assert_close(ours, scores[best], atol=SCORES_ATOL, rtol=0)


def test_the_pooler_of_a_bert_form_folder_starts_the_classifier(tmp_path: Path) -> None:
    network = published("bert", tmp_path / "model")
    model = load_model(tmp_path / "model", head="classification")
    task = Classification(model.config, model.tokenizer, ClassificationSettings(labels=("a", "b")))
    assert task.load_weights(model) == ["head.out.bias", "head.out.weight"]
    assert torch.equal(task.head.dense.weight, network.bert.pooler.dense.weight)
    assert torch.equal(task.encoder.embeddings.word.weight, network.bert.embeddings.word_embeddings.weight)
    number = Regression(model.config, model.tokenizer, RegressionSettings())
    assert number.load_weights(model) == ["head.out.bias", "head.out.weight"]
    assert torch.equal(number.head.dense.weight, network.bert.pooler.dense.weight)
