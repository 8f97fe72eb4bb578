"""The ONNX messages as a table for the wire reader (onnx-ml.proto, IR versions 3 to 14)."""

from __future__ import annotations

import re

from vouchgate.scanning.protobuf_wire import Field, Schema

_ROWS = """
ModelProto          1 ir_version int; 8 opset_import OperatorSetIdProto*; 2 producer_name text; 3 producer_version text; 4 domain text;
                    5 model_version int; 6 doc_string text; 7 graph GraphProto; 14 metadata_props StringStringEntryProto*;
                    20 training_info TrainingInfoProto*; 25 functions FunctionProto*; 26 configuration DeviceConfigurationProto*
GraphProto          1 node NodeProto*; 2 name text; 5 initializer TensorProto*; 15 sparse_initializer SparseTensorProto*; 10 doc_string text;
                    11 input ValueInfoProto*; 12 output ValueInfoProto*; 13 value_info ValueInfoProto*;
                    14 quantization_annotation TensorAnnotation*; 16 metadata_props StringStringEntryProto*
NodeProto           1 input text*; 2 output text*; 3 name text; 4 op_type text; 7 domain text; 8 overload text; 5 attribute AttributeProto*;
                    6 doc_string text; 9 metadata_props StringStringEntryProto*; 10 device_configurations NodeDeviceConfigurationProto*
AttributeProto      1 name text; 21 ref_attr_name text; 13 doc_string text; 20 type int; 2 f float; 3 i int; 4 s bytes; 5 t TensorProto;
                    6 g GraphProto; 22 sparse_tensor SparseTensorProto; 14 tp TypeProto; 7 floats float*; 8 ints int*; 9 strings bytes*;
                    10 tensors TensorProto*; 11 graphs GraphProto*; 23 sparse_tensors SparseTensorProto*; 15 type_protos TypeProto*
TensorProto         1 dims int*; 2 data_type int; 3 segment Segment; 4 float_data float*; 5 int32_data int*; 6 string_data bytes*;
                    7 int64_data int*; 8 name text; 12 doc_string text; 9 raw_data bytes; 13 external_data StringStringEntryProto*;
                    14 data_location int; 10 double_data double*; 11 uint64_data int*; 16 metadata_props StringStringEntryProto*
Segment             1 begin int; 2 end int
SparseTensorProto   1 values TensorProto; 2 indices TensorProto; 3 dims int*
ValueInfoProto      1 name text; 2 type TypeProto; 3 doc_string text; 4 metadata_props StringStringEntryProto*
TypeProto           1 tensor_type TypeTensor; 4 sequence_type TypeElement; 5 map_type TypeMap; 9 optional_type TypeElement;
                    8 sparse_tensor_type TypeTensor; 7 opaque_type TypeOpaque; 6 denotation text
TypeTensor          1 elem_type int; 2 shape TensorShapeProto
TypeElement         1 elem_type TypeProto
TypeMap             1 key_type int; 2 value_type TypeProto
TypeOpaque          1 domain text; 2 name text
TensorShapeProto    1 dim Dimension*
Dimension           1 dim_value int; 2 dim_param text; 3 denotation text
OperatorSetIdProto  1 domain text; 2 version int
FunctionProto       1 name text; 4 input text*; 5 output text*; 6 attribute text*; 11 attribute_proto AttributeProto*; 7 node NodeProto*;
                    8 doc_string text; 9 opset_import OperatorSetIdProto*; 10 domain text; 13 overload text; 12 value_info ValueInfoProto*;
                    14 metadata_props StringStringEntryProto*
TrainingInfoProto   1 initialization GraphProto; 2 algorithm GraphProto; 3 initialization_binding StringStringEntryProto*;
                    4 update_binding StringStringEntryProto*
TensorAnnotation    1 tensor_name text; 2 quant_parameter_tensor_names StringStringEntryProto*
StringStringEntryProto 1 key text; 2 value text
DeviceConfigurationProto 1 name text; 2 num_devices int; 3 device text*
NodeDeviceConfigurationProto 1 configuration_id text; 2 sharding_spec ShardingSpecProto*; 3 pipeline_stage int
ShardingSpecProto   1 tensor_name text; 2 device int*; 3 index_to_device_group_map IntIntListEntryProto*; 4 sharded_dim ShardedDimProto*
IntIntListEntryProto 1 key int; 2 value int*
ShardedDimProto     1 axis int; 2 simple_sharding SimpleShardedDimProto*
SimpleShardedDimProto 1 dim_value int; 2 dim_param text; 3 num_shards int
"""


def _parse(rows: str) -> Schema:
    schema: dict[str, dict[int, Field]] = {}
    for row in re.split(r"\n(?=\S)", rows.strip()):
        message, cells = row.split(maxsplit=1)
        parsed = (cell.split() for cell in cells.split(";"))
        schema[message] = {int(number): Field(name=name, kind=kind.rstrip("*"), many=kind.endswith("*")) for number, name, kind in parsed}
    return schema


SCHEMA: Schema = _parse(_ROWS)

IR_VERSIONS = range(3, 15)
"""Versions read: 3 brought opset imports, 14 is the newest that was reviewed."""

TENSOR_BITS = {
    1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 14: 64, 15: 128, 16: 16, 17: 8, 18: 8, 19: 8,
    20: 8, 21: 4, 22: 4, 23: 4, 24: 8, 25: 2, 26: 2, 27: 6, 28: 6,
}  # fmt: skip
"""TensorProto.DataType -> bits of one element; strings (8) have none."""
STRING = 8
EXTERNAL = 1
"""TensorProto.DataLocation."""

TYPED_DATA = {
    1: ("float_data", 1), 14: ("float_data", 2), 11: ("double_data", 1), 15: ("double_data", 2), 7: ("int64_data", 1),
    12: ("uint64_data", 1), 13: ("uint64_data", 1), 8: ("string_data", 1),
}  # fmt: skip
"""DataType -> the typed field its values may stand in instead of raw_data, and values an element; all others use int32_data."""
PER_INT32 = {21: 2, 22: 2, 23: 2, 25: 4, 26: 4}
"""Sub-byte types: elements that share one int32_data value."""
