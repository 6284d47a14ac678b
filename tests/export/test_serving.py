"""Requests of TensorFlow Serving's clients.

The server here is a double: the SavedModel in a session, as TensorFlow Serving runs it,
behind its REST and gRPC interfaces as its documentation describes them. Set
MHDEBLUR_TF_SERVING_URL, for example to http://localhost:8501/v1/models/mhdeblur, to
test against a real one.
"""

import base64
import http.server
import json
import os
import re
import subprocess
import sys
import threading
import urllib.request
from concurrent import futures
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_mhdeblur.photos import read_image

CLIENT = Path(__file__).parents[2] / "examples" / "serving_client.py"
NAME = "mhdeblur"
SERVER = os.environ.get("MHDEBLUR_TF_SERVING_URL")


class ServedModel:
    """A version of a model in a session, with predictions in all three forms."""

    def __init__(self, folder):
        self.session = tf.compat.v1.Session(graph=tf.Graph())
        with self.session.graph.as_default():
            model = tf.compat.v1.saved_model.load(self.session, ["serve"], str(folder))
        self.signatures = model.signature_def

    def predict(self, signature_name, inputs):
        """Outputs by name, of arrays by name."""
        signature = self.signatures[signature_name or "serving_default"]
        assert set(inputs) == set(signature.inputs)
        feed = {signature.inputs[name].name: value for name, value in inputs.items()}
        fetch = {name: info.name for name, info in signature.outputs.items()}
        return self.session.run(fetch, feed)

    def predict_proto(self, request, response):
        """Fills a PredictResponse."""
        inputs = {
            name: tf.make_ndarray(value) for name, value in request.inputs.items()
        }
        outputs = self.predict(request.model_spec.signature_name, inputs)
        for name, value in outputs.items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
        return response

    def predict_json(self, body):
        """Answer to a request in row format."""
        name = body.get("signature_name", "serving_default")
        ((input_name, info),) = self.signatures[name].inputs.items()
        rows = body["instances"]
        if info.dtype == tf.string.as_datatype_enum:
            rows = [base64.b64decode(row["b64"], validate=True) for row in rows]
            array = np.array(rows, object)
        else:
            array = np.array(rows, tf.as_dtype(info.dtype).as_numpy_dtype)
        outputs = self.predict(name, {input_name: array})
        columns = {name: self._column(name, value) for name, value in outputs.items()}
        if len(columns) == 1:
            return {"predictions": next(iter(columns.values()))}
        keys, columns = zip(*columns.items())
        return {"predictions": [dict(zip(keys, row)) for row in zip(*columns)]}

    def _column(self, name, value):
        if value.dtype != object:
            return value.tolist()
        # Strings under another name are sent as text, which a PNG is not.
        assert name.endswith("_bytes")
        return [{"b64": base64.b64encode(data).decode()} for data in value]


@pytest.fixture(scope="module")
def served(served_folder):
    return ServedModel(served_folder / "1")


@pytest.fixture(scope="module")
def url(served):
    """Address of the model on a REST server."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, answer = 200, None
            if self.path != f"/v1/models/{NAME}:predict":
                status, answer = 404, {"error": "Servable not found for request"}
            else:
                try:
                    answer = served.predict_json(json.loads(body))
                except tf.errors.InvalidArgumentError as error:
                    # The first line is the Python interface's.
                    message = error.message.removeprefix("Graph execution error:\n\n")
                    status, answer = 400, {"error": message}
            answer = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1/models/{NAME}"
        server.shutdown()


def client(*arguments):
    """Runs the client; its exit code and what it says."""
    process = subprocess.run(
        [sys.executable, "-I", str(CLIENT), *map(str, arguments)],
        capture_output=True,
        text=True,
    )
    return process.returncode, process.stderr


@pytest.fixture
def photo(tmp_path):
    """Path of a JPEG that a camera held upright has written."""
    exif = Image.Exif()
    exif[0x0112] = 6
    random = np.random.default_rng(0)
    pixels = random.integers(80, 180, (24, 36, 3), dtype="uint8")
    Image.fromarray(pixels).save(tmp_path / "photo.jpg", exif=exif, quality=95)
    return tmp_path / "photo.jpg"


def restored_as_stored(model, path):
    with Image.open(path) as image:
        return model.restore(np.asarray(image), tile=None).image


def test_client(url, photo, model):
    assert client(photo, photo.with_name("out.png"), "--url", url) == (0, "")
    # Restored as it is stored, and seen upright: the client passes the orientation on.
    found = read_image(photo.with_name("out.png")).to_array()
    expected = np.rot90(restored_as_stored(model, photo), -1)
    np.testing.assert_allclose(found.astype(int), expected, rtol=0, atol=1)


def test_client_with_png(url, tmp_path):
    Image.new("L", (30, 20), 128).save(tmp_path / "photo.png")
    paths = tmp_path / "photo.png", tmp_path / "out.png"
    assert client(*paths, "--url", url) == (0, "")
    with Image.open(paths[1]) as image:
        assert (image.mode, image.size) == ("L", (30, 20))


@pytest.mark.parametrize(
    "name, address, message",
    [
        ("text.jpg", "{url}", "text.jpg: the server answers 400: .*Unknown image file"),
        ("missing.jpg", "{url}", "missing.jpg: No such file"),
        ("photo.jpg", "{url}2", "the server answers 404: Servable not found"),
        ("photo.jpg", "http://127.0.0.1:1/v1/models/m", "no REST server at .*refused"),
        ("photo.jpg", "localhost/v1/models/m", "no REST server at .*unknown url type"),
    ],
)
def test_client_says_what_is_wrong(url, photo, name, address, message):
    photo.with_name("text.jpg").write_text("no image")
    output = photo.with_name("out.png")
    code, error = client(
        photo.with_name(name), output, "--url", address.format(url=url)
    )
    assert code == 1 and not output.exists()
    assert error.count("\n") == 1 and re.search(message, error)


def test_rest_arrays(url, model):
    integers = np.random.default_rng(0).integers(80, 180, (2, 20, 28, 3), dtype="uint8")
    body = {"signature_name": "hypotheses", "instances": integers.tolist()}
    with urllib.request.urlopen(f"{url}:predict", json.dumps(body).encode()) as answer:
        rows = json.load(answer)["predictions"]
    expected = model.restore(integers, tile=None)
    for index, row in enumerate(rows):
        np.testing.assert_allclose(
            np.array(row["hypotheses"]) / 255,
            expected.hypotheses[index],
            rtol=0,
            atol=0.51 / 255,
        )
        np.testing.assert_allclose(
            row["uncertainty"], expected.uncertainty[index], rtol=0, atol=1e-5
        )


def test_grpc(served, photo, model):
    grpc = pytest.importorskip("grpc")
    messages = pytest.importorskip("tensorflow_serving.apis.predict_pb2")
    service = pytest.importorskip("tensorflow_serving.apis.prediction_service_pb2_grpc")

    class Service(service.PredictionServiceServicer):
        def Predict(self, request, context):
            return served.predict_proto(request, messages.PredictResponse())

    server = grpc.server(futures.ThreadPoolExecutor(1))
    service.add_PredictionServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    request = messages.PredictRequest()
    request.model_spec.name = NAME
    request.model_spec.signature_name = "serving_bytes"
    files = tf.make_tensor_proto([photo.read_bytes()])
    request.inputs["image_bytes"].CopyFrom(files)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = service.PredictionServiceStub(channel)
        response = stub.Predict(request, timeout=60)
    server.stop(None)
    (png,) = response.outputs["png_bytes"].string_val
    found = tf.io.decode_png(png).numpy().astype(int)
    np.testing.assert_allclose(found, restored_as_stored(model, photo), rtol=0, atol=1)


def test_warm_up_requests_can_be_answered(served, served_folder):
    logs = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    messages = pytest.importorskip("tensorflow_serving.apis.predict_pb2")
    path = served_folder / "1" / "assets.extra" / "tf_serving_warmup_requests"
    answers = {}
    for record in tf.data.TFRecordDataset(str(path)):
        request = logs.PredictionLog.FromString(record.numpy()).predict_log.request
        response = served.predict_proto(request, messages.PredictResponse())
        signature = request.model_spec.signature_name
        answers.setdefault(signature, []).append(response.outputs)
    assert len(answers) == 4
    for outputs in answers["serving_default"], answers["serving_uint8"]:
        shapes = [tf.make_ndarray(output["image"]).shape for output in outputs]
        assert shapes == [(1, 20, 28, 3), (1, 16, 16, 3)]
    pngs = [output["png_bytes"].string_val[0] for output in answers["serving_bytes"]]
    assert [tf.io.decode_png(png).shape for png in pngs] == [(20, 28, 3), (16, 16, 3)]
    shapes = [
        tf.make_ndarray(output["uncertainty"]).shape for output in answers["hypotheses"]
    ]
    assert shapes == [(1, 20, 28), (1, 16, 16)]


@pytest.mark.skipif(SERVER is None, reason="needs a server, see above")
def test_real_server(photo):
    assert client(photo, photo.with_name("out.png"), "--url", SERVER) == (0, "")
    assert read_image(photo.with_name("out.png")).to_array().shape == (36, 24, 3)
    photo.write_text("no image")
    code, error = client(photo, photo.with_name("out.png"), "--url", SERVER)
    assert code == 1 and "the server answers 400: " in error
