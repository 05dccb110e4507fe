from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Event(_message.Message):
    __slots__ = ("wall_time", "step", "version", "graph_def", "summary", "explain")
    WALL_TIME_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    GRAPH_DEF_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    wall_time: float
    step: int
    version: bytes
    graph_def: bytes
    summary: Summary
    explain: Explain
    def __init__(self, wall_time: _Optional[float] = ..., step: _Optional[int] = ..., version: _Optional[bytes] = ..., graph_def: _Optional[bytes] = ..., summary: _Optional[_Union[Summary, _Mapping]] = ..., explain: _Optional[_Union[Explain, _Mapping]] = ...) -> None: ...

class Summary(_message.Message):
    __slots__ = ("value",)
    class Image(_message.Message):
        __slots__ = ("height", "width", "colorspace", "encoded_image")
        HEIGHT_FIELD_NUMBER: _ClassVar[int]
        WIDTH_FIELD_NUMBER: _ClassVar[int]
        COLORSPACE_FIELD_NUMBER: _ClassVar[int]
        ENCODED_IMAGE_FIELD_NUMBER: _ClassVar[int]
        height: int
        width: int
        colorspace: int
        encoded_image: bytes
        def __init__(self, height: _Optional[int] = ..., width: _Optional[int] = ..., colorspace: _Optional[int] = ..., encoded_image: _Optional[bytes] = ...) -> None: ...
    class Histogram(_message.Message):
        __slots__ = ("buckets", "nan_count", "pos_inf_count", "neg_inf_count", "max", "min", "sum", "count")
        class Bucket(_message.Message):
            __slots__ = ("left", "width", "count")
            LEFT_FIELD_NUMBER: _ClassVar[int]
            WIDTH_FIELD_NUMBER: _ClassVar[int]
            COUNT_FIELD_NUMBER: _ClassVar[int]
            left: float
            width: float
            count: int
            def __init__(self, left: _Optional[float] = ..., width: _Optional[float] = ..., count: _Optional[int] = ...) -> None: ...
        BUCKETS_FIELD_NUMBER: _ClassVar[int]
        NAN_COUNT_FIELD_NUMBER: _ClassVar[int]
        POS_INF_COUNT_FIELD_NUMBER: _ClassVar[int]
        NEG_INF_COUNT_FIELD_NUMBER: _ClassVar[int]
        MAX_FIELD_NUMBER: _ClassVar[int]
        MIN_FIELD_NUMBER: _ClassVar[int]
        SUM_FIELD_NUMBER: _ClassVar[int]
        COUNT_FIELD_NUMBER: _ClassVar[int]
        buckets: _containers.RepeatedCompositeFieldContainer[Summary.Histogram.Bucket]
        nan_count: int
        pos_inf_count: int
        neg_inf_count: int
        max: float
        min: float
        sum: float
        count: int
        def __init__(self, buckets: _Optional[_Iterable[_Union[Summary.Histogram.Bucket, _Mapping]]] = ..., nan_count: _Optional[int] = ..., pos_inf_count: _Optional[int] = ..., neg_inf_count: _Optional[int] = ..., max: _Optional[float] = ..., min: _Optional[float] = ..., sum: _Optional[float] = ..., count: _Optional[int] = ...) -> None: ...
    class Value(_message.Message):
        __slots__ = ("tag", "scalar_value", "image", "tensor", "histogram", "loss_landscape")
        TAG_FIELD_NUMBER: _ClassVar[int]
        SCALAR_VALUE_FIELD_NUMBER: _ClassVar[int]
        IMAGE_FIELD_NUMBER: _ClassVar[int]
        TENSOR_FIELD_NUMBER: _ClassVar[int]
        HISTOGRAM_FIELD_NUMBER: _ClassVar[int]
        LOSS_LANDSCAPE_FIELD_NUMBER: _ClassVar[int]
        tag: bytes
        scalar_value: float
        image: Summary.Image
        tensor: TensorProto
        histogram: Summary.Histogram
        loss_landscape: LossLandscape
        def __init__(self, tag: _Optional[bytes] = ..., scalar_value: _Optional[float] = ..., image: _Optional[_Union[Summary.Image, _Mapping]] = ..., tensor: _Optional[_Union[TensorProto, _Mapping]] = ..., histogram: _Optional[_Union[Summary.Histogram, _Mapping]] = ..., loss_landscape: _Optional[_Union[LossLandscape, _Mapping]] = ...) -> None: ...
    VALUE_FIELD_NUMBER: _ClassVar[int]
    value: _containers.RepeatedCompositeFieldContainer[Summary.Value]
    def __init__(self, value: _Optional[_Iterable[_Union[Summary.Value, _Mapping]]] = ...) -> None: ...

class TensorProto(_message.Message):
    __slots__ = ("dims", "data_type", "float_data", "int32_data", "int64_data", "double_data", "uint64_data", "raw_data")
    DIMS_FIELD_NUMBER: _ClassVar[int]
    DATA_TYPE_FIELD_NUMBER: _ClassVar[int]
    FLOAT_DATA_FIELD_NUMBER: _ClassVar[int]
    INT32_DATA_FIELD_NUMBER: _ClassVar[int]
    INT64_DATA_FIELD_NUMBER: _ClassVar[int]
    DOUBLE_DATA_FIELD_NUMBER: _ClassVar[int]
    UINT64_DATA_FIELD_NUMBER: _ClassVar[int]
    RAW_DATA_FIELD_NUMBER: _ClassVar[int]
    dims: _containers.RepeatedScalarFieldContainer[int]
    data_type: int
    float_data: _containers.RepeatedScalarFieldContainer[float]
    int32_data: _containers.RepeatedScalarFieldContainer[int]
    int64_data: _containers.RepeatedScalarFieldContainer[int]
    double_data: _containers.RepeatedScalarFieldContainer[float]
    uint64_data: _containers.RepeatedScalarFieldContainer[int]
    raw_data: bytes
    def __init__(self, dims: _Optional[_Iterable[int]] = ..., data_type: _Optional[int] = ..., float_data: _Optional[_Iterable[float]] = ..., int32_data: _Optional[_Iterable[int]] = ..., int64_data: _Optional[_Iterable[int]] = ..., double_data: _Optional[_Iterable[float]] = ..., uint64_data: _Optional[_Iterable[int]] = ..., raw_data: _Optional[bytes] = ...) -> None: ...

class LossLandscape(_message.Message):
    __slots__ = ("landscape", "loss_path", "metadata", "convergence_point")
    class Point(_message.Message):
        __slots__ = ("x", "y", "z")
        X_FIELD_NUMBER: _ClassVar[int]
        Y_FIELD_NUMBER: _ClassVar[int]
        Z_FIELD_NUMBER: _ClassVar[int]
        x: TensorProto
        y: TensorProto
        z: TensorProto
        def __init__(self, x: _Optional[_Union[TensorProto, _Mapping]] = ..., y: _Optional[_Union[TensorProto, _Mapping]] = ..., z: _Optional[_Union[TensorProto, _Mapping]] = ...) -> None: ...
    class LossPath(_message.Message):
        __slots__ = ("intervals", "points")
        INTERVALS_FIELD_NUMBER: _ClassVar[int]
        POINTS_FIELD_NUMBER: _ClassVar[int]
        intervals: _containers.RepeatedScalarFieldContainer[int]
        points: LossLandscape.Point
        def __init__(self, intervals: _Optional[_Iterable[int]] = ..., points: _Optional[_Union[LossLandscape.Point, _Mapping]] = ...) -> None: ...
    class Metadata(_message.Message):
        __slots__ = ("decomposition", "unit", "step_per_epoch")
        DECOMPOSITION_FIELD_NUMBER: _ClassVar[int]
        UNIT_FIELD_NUMBER: _ClassVar[int]
        STEP_PER_EPOCH_FIELD_NUMBER: _ClassVar[int]
        decomposition: bytes
        unit: bytes
        step_per_epoch: int
        def __init__(self, decomposition: _Optional[bytes] = ..., unit: _Optional[bytes] = ..., step_per_epoch: _Optional[int] = ...) -> None: ...
    LANDSCAPE_FIELD_NUMBER: _ClassVar[int]
    LOSS_PATH_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    CONVERGENCE_POINT_FIELD_NUMBER: _ClassVar[int]
    landscape: LossLandscape.Point
    loss_path: LossLandscape.LossPath
    metadata: LossLandscape.Metadata
    convergence_point: LossLandscape.Point
    def __init__(self, landscape: _Optional[_Union[LossLandscape.Point, _Mapping]] = ..., loss_path: _Optional[_Union[LossLandscape.LossPath, _Mapping]] = ..., metadata: _Optional[_Union[LossLandscape.Metadata, _Mapping]] = ..., convergence_point: _Optional[_Union[LossLandscape.Point, _Mapping]] = ...) -> None: ...

class Explain(_message.Message):
    __slots__ = ("sample_id", "image_path", "ground_truth_label", "inference", "explanation", "benchmark", "metadata", "status", "hoc")
    class Inference(_message.Message):
        __slots__ = ("ground_truth_prob", "predicted_label", "predicted_prob", "ground_truth_prob_sd", "ground_truth_prob_itl95_low", "ground_truth_prob_itl95_hi", "predicted_prob_sd", "predicted_prob_itl95_low", "predicted_prob_itl95_hi")
        GROUND_TRUTH_PROB_FIELD_NUMBER: _ClassVar[int]
        PREDICTED_LABEL_FIELD_NUMBER: _ClassVar[int]
        PREDICTED_PROB_FIELD_NUMBER: _ClassVar[int]
        GROUND_TRUTH_PROB_SD_FIELD_NUMBER: _ClassVar[int]
        GROUND_TRUTH_PROB_ITL95_LOW_FIELD_NUMBER: _ClassVar[int]
        GROUND_TRUTH_PROB_ITL95_HI_FIELD_NUMBER: _ClassVar[int]
        PREDICTED_PROB_SD_FIELD_NUMBER: _ClassVar[int]
        PREDICTED_PROB_ITL95_LOW_FIELD_NUMBER: _ClassVar[int]
        PREDICTED_PROB_ITL95_HI_FIELD_NUMBER: _ClassVar[int]
        ground_truth_prob: _containers.RepeatedScalarFieldContainer[float]
        predicted_label: _containers.RepeatedScalarFieldContainer[int]
        predicted_prob: _containers.RepeatedScalarFieldContainer[float]
        ground_truth_prob_sd: _containers.RepeatedScalarFieldContainer[float]
        ground_truth_prob_itl95_low: _containers.RepeatedScalarFieldContainer[float]
        ground_truth_prob_itl95_hi: _containers.RepeatedScalarFieldContainer[float]
        predicted_prob_sd: _containers.RepeatedScalarFieldContainer[float]
        predicted_prob_itl95_low: _containers.RepeatedScalarFieldContainer[float]
        predicted_prob_itl95_hi: _containers.RepeatedScalarFieldContainer[float]
        def __init__(self, ground_truth_prob: _Optional[_Iterable[float]] = ..., predicted_label: _Optional[_Iterable[int]] = ..., predicted_prob: _Optional[_Iterable[float]] = ..., ground_truth_prob_sd: _Optional[_Iterable[float]] = ..., ground_truth_prob_itl95_low: _Optional[_Iterable[float]] = ..., ground_truth_prob_itl95_hi: _Optional[_Iterable[float]] = ..., predicted_prob_sd: _Optional[_Iterable[float]] = ..., predicted_prob_itl95_low: _Optional[_Iterable[float]] = ..., predicted_prob_itl95_hi: _Optional[_Iterable[float]] = ...) -> None: ...
    class Explanation(_message.Message):
        __slots__ = ("explain_method", "label", "heatmap_path")
        EXPLAIN_METHOD_FIELD_NUMBER: _ClassVar[int]
        LABEL_FIELD_NUMBER: _ClassVar[int]
        HEATMAP_PATH_FIELD_NUMBER: _ClassVar[int]
        explain_method: bytes
        label: int
        heatmap_path: bytes
        def __init__(self, explain_method: _Optional[bytes] = ..., label: _Optional[int] = ..., heatmap_path: _Optional[bytes] = ...) -> None: ...
    class Benchmark(_message.Message):
        __slots__ = ("benchmark_method", "explain_method", "total_score", "label_score")
        BENCHMARK_METHOD_FIELD_NUMBER: _ClassVar[int]
        EXPLAIN_METHOD_FIELD_NUMBER: _ClassVar[int]
        TOTAL_SCORE_FIELD_NUMBER: _ClassVar[int]
        LABEL_SCORE_FIELD_NUMBER: _ClassVar[int]
        benchmark_method: bytes
        explain_method: bytes
        total_score: float
        label_score: _containers.RepeatedScalarFieldContainer[float]
        def __init__(self, benchmark_method: _Optional[bytes] = ..., explain_method: _Optional[bytes] = ..., total_score: _Optional[float] = ..., label_score: _Optional[_Iterable[float]] = ...) -> None: ...
    class Metadata(_message.Message):
        __slots__ = ("label", "explain_method", "benchmark_method")
        LABEL_FIELD_NUMBER: _ClassVar[int]
        EXPLAIN_METHOD_FIELD_NUMBER: _ClassVar[int]
        BENCHMARK_METHOD_FIELD_NUMBER: _ClassVar[int]
        label: _containers.RepeatedScalarFieldContainer[bytes]
        explain_method: _containers.RepeatedScalarFieldContainer[bytes]
        benchmark_method: _containers.RepeatedScalarFieldContainer[bytes]
        def __init__(self, label: _Optional[_Iterable[bytes]] = ..., explain_method: _Optional[_Iterable[bytes]] = ..., benchmark_method: _Optional[_Iterable[bytes]] = ...) -> None: ...
    class HocLayer(_message.Message):
        __slots__ = ("prob", "box")
        PROB_FIELD_NUMBER: _ClassVar[int]
        BOX_FIELD_NUMBER: _ClassVar[int]
        prob: float
        box: _containers.RepeatedScalarFieldContainer[int]
        def __init__(self, prob: _Optional[float] = ..., box: _Optional[_Iterable[int]] = ...) -> None: ...
    class Hoc(_message.Message):
        __slots__ = ("label", "mask", "layer")
        LABEL_FIELD_NUMBER: _ClassVar[int]
        MASK_FIELD_NUMBER: _ClassVar[int]
        LAYER_FIELD_NUMBER: _ClassVar[int]
        label: int
        mask: bytes
        layer: _containers.RepeatedCompositeFieldContainer[Explain.HocLayer]
        def __init__(self, label: _Optional[int] = ..., mask: _Optional[bytes] = ..., layer: _Optional[_Iterable[_Union[Explain.HocLayer, _Mapping]]] = ...) -> None: ...
    SAMPLE_ID_FIELD_NUMBER: _ClassVar[int]
    IMAGE_PATH_FIELD_NUMBER: _ClassVar[int]
    GROUND_TRUTH_LABEL_FIELD_NUMBER: _ClassVar[int]
    INFERENCE_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    BENCHMARK_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    HOC_FIELD_NUMBER: _ClassVar[int]
    sample_id: int
    image_path: bytes
    ground_truth_label: _containers.RepeatedScalarFieldContainer[int]
    inference: Explain.Inference
    explanation: _containers.RepeatedCompositeFieldContainer[Explain.Explanation]
    benchmark: _containers.RepeatedCompositeFieldContainer[Explain.Benchmark]
    metadata: Explain.Metadata
    status: bytes
    hoc: _containers.RepeatedCompositeFieldContainer[Explain.Hoc]
    def __init__(self, sample_id: _Optional[int] = ..., image_path: _Optional[bytes] = ..., ground_truth_label: _Optional[_Iterable[int]] = ..., inference: _Optional[_Union[Explain.Inference, _Mapping]] = ..., explanation: _Optional[_Iterable[_Union[Explain.Explanation, _Mapping]]] = ..., benchmark: _Optional[_Iterable[_Union[Explain.Benchmark, _Mapping]]] = ..., metadata: _Optional[_Union[Explain.Metadata, _Mapping]] = ..., status: _Optional[bytes] = ..., hoc: _Optional[_Iterable[_Union[Explain.Hoc, _Mapping]]] = ...) -> None: ...

class LineageEvent(_message.Message):
    __slots__ = ("wall_time", "step", "version", "train_lineage", "evaluation_lineage", "dataset_graph", "user_defined_info")
    WALL_TIME_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TRAIN_LINEAGE_FIELD_NUMBER: _ClassVar[int]
    EVALUATION_LINEAGE_FIELD_NUMBER: _ClassVar[int]
    DATASET_GRAPH_FIELD_NUMBER: _ClassVar[int]
    USER_DEFINED_INFO_FIELD_NUMBER: _ClassVar[int]
    wall_time: float
    step: int
    version: bytes
    train_lineage: TrainLineage
    evaluation_lineage: EvaluationLineage
    dataset_graph: DatasetGraph
    user_defined_info: UserDefinedInfo
    def __init__(self, wall_time: _Optional[float] = ..., step: _Optional[int] = ..., version: _Optional[bytes] = ..., train_lineage: _Optional[_Union[TrainLineage, _Mapping]] = ..., evaluation_lineage: _Optional[_Union[EvaluationLineage, _Mapping]] = ..., dataset_graph: _Optional[_Union[DatasetGraph, _Mapping]] = ..., user_defined_info: _Optional[_Union[UserDefinedInfo, _Mapping]] = ...) -> None: ...

class TrainLineage(_message.Message):
    __slots__ = ("hyper_parameters", "train_dataset", "algorithm", "model")
    class HyperParameters(_message.Message):
        __slots__ = ("optimizer", "learning_rate", "loss_function", "epoch", "parallel_mode", "device_num", "batch_size")
        OPTIMIZER_FIELD_NUMBER: _ClassVar[int]
        LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
        LOSS_FUNCTION_FIELD_NUMBER: _ClassVar[int]
        EPOCH_FIELD_NUMBER: _ClassVar[int]
        PARALLEL_MODE_FIELD_NUMBER: _ClassVar[int]
        DEVICE_NUM_FIELD_NUMBER: _ClassVar[int]
        BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
        optimizer: str
        learning_rate: float
        loss_function: str
        epoch: int
        parallel_mode: str
        device_num: int
        batch_size: int
        def __init__(self, optimizer: _Optional[str] = ..., learning_rate: _Optional[float] = ..., loss_function: _Optional[str] = ..., epoch: _Optional[int] = ..., parallel_mode: _Optional[str] = ..., device_num: _Optional[int] = ..., batch_size: _Optional[int] = ...) -> None: ...
    class TrainDataset(_message.Message):
        __slots__ = ("train_dataset_path", "train_dataset_size")
        TRAIN_DATASET_PATH_FIELD_NUMBER: _ClassVar[int]
        TRAIN_DATASET_SIZE_FIELD_NUMBER: _ClassVar[int]
        train_dataset_path: str
        train_dataset_size: int
        def __init__(self, train_dataset_path: _Optional[str] = ..., train_dataset_size: _Optional[int] = ...) -> None: ...
    class Algorithm(_message.Message):
        __slots__ = ("network", "loss")
        NETWORK_FIELD_NUMBER: _ClassVar[int]
        LOSS_FIELD_NUMBER: _ClassVar[int]
        network: str
        loss: float
        def __init__(self, network: _Optional[str] = ..., loss: _Optional[float] = ...) -> None: ...
    class Model(_message.Message):
        __slots__ = ("path", "size")
        PATH_FIELD_NUMBER: _ClassVar[int]
        SIZE_FIELD_NUMBER: _ClassVar[int]
        path: str
        size: int
        def __init__(self, path: _Optional[str] = ..., size: _Optional[int] = ...) -> None: ...
    HYPER_PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    TRAIN_DATASET_FIELD_NUMBER: _ClassVar[int]
    ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    hyper_parameters: TrainLineage.HyperParameters
    train_dataset: TrainLineage.TrainDataset
    algorithm: TrainLineage.Algorithm
    model: TrainLineage.Model
    def __init__(self, hyper_parameters: _Optional[_Union[TrainLineage.HyperParameters, _Mapping]] = ..., train_dataset: _Optional[_Union[TrainLineage.TrainDataset, _Mapping]] = ..., algorithm: _Optional[_Union[TrainLineage.Algorithm, _Mapping]] = ..., model: _Optional[_Union[TrainLineage.Model, _Mapping]] = ...) -> None: ...

class EvaluationLineage(_message.Message):
    __slots__ = ("metric", "valid_dataset")
    class ValidDataset(_message.Message):
        __slots__ = ("valid_dataset_path", "valid_dataset_size")
        VALID_DATASET_PATH_FIELD_NUMBER: _ClassVar[int]
        VALID_DATASET_SIZE_FIELD_NUMBER: _ClassVar[int]
        valid_dataset_path: str
        valid_dataset_size: int
        def __init__(self, valid_dataset_path: _Optional[str] = ..., valid_dataset_size: _Optional[int] = ...) -> None: ...
    METRIC_FIELD_NUMBER: _ClassVar[int]
    VALID_DATASET_FIELD_NUMBER: _ClassVar[int]
    metric: str
    valid_dataset: EvaluationLineage.ValidDataset
    def __init__(self, metric: _Optional[str] = ..., valid_dataset: _Optional[_Union[EvaluationLineage.ValidDataset, _Mapping]] = ...) -> None: ...

class DatasetGraph(_message.Message):
    __slots__ = ("children", "parameter", "operations", "sampler")
    CHILDREN_FIELD_NUMBER: _ClassVar[int]
    PARAMETER_FIELD_NUMBER: _ClassVar[int]
    OPERATIONS_FIELD_NUMBER: _ClassVar[int]
    SAMPLER_FIELD_NUMBER: _ClassVar[int]
    children: _containers.RepeatedCompositeFieldContainer[DatasetGraph]
    parameter: OperationParameter
    operations: _containers.RepeatedCompositeFieldContainer[Operation]
    sampler: Operation
    def __init__(self, children: _Optional[_Iterable[_Union[DatasetGraph, _Mapping]]] = ..., parameter: _Optional[_Union[OperationParameter, _Mapping]] = ..., operations: _Optional[_Iterable[_Union[Operation, _Mapping]]] = ..., sampler: _Optional[_Union[Operation, _Mapping]] = ...) -> None: ...

class Operation(_message.Message):
    __slots__ = ("operation_param", "size", "weights")
    OPERATION_PARAM_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    operation_param: OperationParameter
    size: _containers.RepeatedScalarFieldContainer[int]
    weights: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, operation_param: _Optional[_Union[OperationParameter, _Mapping]] = ..., size: _Optional[_Iterable[int]] = ..., weights: _Optional[_Iterable[float]] = ...) -> None: ...

class OperationParameter(_message.Message):
    __slots__ = ("map_str", "map_str_list", "map_bool", "map_int", "map_double")
    class StrList(_message.Message):
        __slots__ = ("str_value",)
        STR_VALUE_FIELD_NUMBER: _ClassVar[int]
        str_value: _containers.RepeatedScalarFieldContainer[str]
        def __init__(self, str_value: _Optional[_Iterable[str]] = ...) -> None: ...
    class StrEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class StrListEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: OperationParameter.StrList
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[OperationParameter.StrList, _Mapping]] = ...) -> None: ...
    class BoolEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: bool
        def __init__(self, key: _Optional[str] = ..., value: bool = ...) -> None: ...
    class IntEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class DoubleEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    MAP_STR_FIELD_NUMBER: _ClassVar[int]
    MAP_STR_LIST_FIELD_NUMBER: _ClassVar[int]
    MAP_BOOL_FIELD_NUMBER: _ClassVar[int]
    MAP_INT_FIELD_NUMBER: _ClassVar[int]
    MAP_DOUBLE_FIELD_NUMBER: _ClassVar[int]
    map_str: _containers.RepeatedCompositeFieldContainer[OperationParameter.StrEntry]
    map_str_list: _containers.RepeatedCompositeFieldContainer[OperationParameter.StrListEntry]
    map_bool: _containers.RepeatedCompositeFieldContainer[OperationParameter.BoolEntry]
    map_int: _containers.RepeatedCompositeFieldContainer[OperationParameter.IntEntry]
    map_double: _containers.RepeatedCompositeFieldContainer[OperationParameter.DoubleEntry]
    def __init__(self, map_str: _Optional[_Iterable[_Union[OperationParameter.StrEntry, _Mapping]]] = ..., map_str_list: _Optional[_Iterable[_Union[OperationParameter.StrListEntry, _Mapping]]] = ..., map_bool: _Optional[_Iterable[_Union[OperationParameter.BoolEntry, _Mapping]]] = ..., map_int: _Optional[_Iterable[_Union[OperationParameter.IntEntry, _Mapping]]] = ..., map_double: _Optional[_Iterable[_Union[OperationParameter.DoubleEntry, _Mapping]]] = ...) -> None: ...

class UserDefinedInfo(_message.Message):
    __slots__ = ("user_info", "map_dict", "map_int32", "map_str", "map_double")
    class DictEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: UserDefinedInfo
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[UserDefinedInfo, _Mapping]] = ...) -> None: ...
    class Int32Entry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class StrEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class DoubleEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    USER_INFO_FIELD_NUMBER: _ClassVar[int]
    MAP_DICT_FIELD_NUMBER: _ClassVar[int]
    MAP_INT32_FIELD_NUMBER: _ClassVar[int]
    MAP_STR_FIELD_NUMBER: _ClassVar[int]
    MAP_DOUBLE_FIELD_NUMBER: _ClassVar[int]
    user_info: _containers.RepeatedCompositeFieldContainer[UserDefinedInfo]
    map_dict: _containers.RepeatedCompositeFieldContainer[UserDefinedInfo.DictEntry]
    map_int32: _containers.RepeatedCompositeFieldContainer[UserDefinedInfo.Int32Entry]
    map_str: _containers.RepeatedCompositeFieldContainer[UserDefinedInfo.StrEntry]
    map_double: _containers.RepeatedCompositeFieldContainer[UserDefinedInfo.DoubleEntry]
    def __init__(self, user_info: _Optional[_Iterable[_Union[UserDefinedInfo, _Mapping]]] = ..., map_dict: _Optional[_Iterable[_Union[UserDefinedInfo.DictEntry, _Mapping]]] = ..., map_int32: _Optional[_Iterable[_Union[UserDefinedInfo.Int32Entry, _Mapping]]] = ..., map_str: _Optional[_Iterable[_Union[UserDefinedInfo.StrEntry, _Mapping]]] = ..., map_double: _Optional[_Iterable[_Union[UserDefinedInfo.DoubleEntry, _Mapping]]] = ...) -> None: ...
